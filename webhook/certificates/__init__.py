"""The webhook's certificates: made, kept, exchanged while API servers call, and loaded without a restart.

* `authority` makes and reads certificates
* `record`    what the Secret holds, as data
* `rotation`  decides the next step of an exchange; pure
* `keeper`    the leader's loop that takes those steps in a cluster
* `follower`  every replica's loop that loads what the Secret holds and reports it
* `folder`    certificates in a folder: of cert-manager, or made here for trying things out
* `tls`       the live TLS context whose certificate changes under the running server
"""
