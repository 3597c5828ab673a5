"""The subcommands of `sennet-train`, one a module."""
