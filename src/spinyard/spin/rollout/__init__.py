"""A Rollout: moves a Service to another template with judgement, and back."""
