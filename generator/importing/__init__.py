"""`berth import`: KAITO's Workspaces, from files or a cluster, become a fleet repository.

Sources are read and never changed. What is brought over, what differs and what is left behind is told for
every object, so that nothing gets lost unseen.
"""
