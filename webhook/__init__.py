"""Admission: the rules and the planner behind a Kubernetes webhook."""
