"""Alerts: what is wrong with versions, who is told, and what has been told already.

conditions   what is wrong now, from definitions, manifests and the clock; pure
incidents    what of it is new, over, or has been told; pure
message      one clear message of it
routes       where messages go: the URLs of ENDPOINTS_ALERTS, through Apprise
journal      all that must survive restarts, in the lake, so that of two daemons one sends
alerter      one tick of all of this
"""
