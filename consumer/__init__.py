"""The worker: events in, learning, fresh recommendations out."""
