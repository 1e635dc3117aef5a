"""The round for one VM: observe, plan, execute, summarise. Start at `reconcile`, then read `planner`."""
