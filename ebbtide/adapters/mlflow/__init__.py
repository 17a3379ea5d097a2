"""Models and prompts in MLflow's registry."""
