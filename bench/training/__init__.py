"""The trainer beside a plain loop of smp, albumentations and torch."""
