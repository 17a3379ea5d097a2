"""What is versioned in git: configuration, infrastructure, manifests of a GitOps repository."""
