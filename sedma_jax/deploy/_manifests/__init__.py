"""What a workflow compiles to: serving code, images, Kubernetes objects."""
