"""The Workspace's fields as data: one table reads documents, makes the CRD's schema and the reference page.

`texts` and `formats` judge single values, `nodes` reads and reports, `schema` holds the tables.
"""
