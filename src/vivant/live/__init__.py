"""Live animation: bounded queues around a Session, a promise about latency, and a voice that can be interrupted."""
