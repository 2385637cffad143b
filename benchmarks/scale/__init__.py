"""Many workers on one Redis, and very long queues: what stays the same as the service grows."""
