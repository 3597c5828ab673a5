"""What the pipeline runs on: streams, events and buffers, with one implementation for each kind of device."""
