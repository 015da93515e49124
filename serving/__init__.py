"""What runs in the pod: the engine, its weights and the HTTP front."""
