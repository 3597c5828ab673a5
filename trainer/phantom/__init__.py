"""Synthetic kidneys with a known arterial tree."""

from sennet_trainer.phantom.files import write_phantom
from sennet_trainer.phantom.phantom import Phantom, PhantomSettings, make_phantom

__all__ = ["Phantom", "PhantomSettings", "make_phantom", "write_phantom"]
