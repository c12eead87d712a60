"""All that reaches under the public API of Twisted and Autobahn, to save what they cost.

``frames`` reads WebSocket messages that are right in every point, and leaves all others to Autobahn
unread. ``output`` is the one way out of each connection: a list of octets, sent straight to the
socket at the end of the reactor's turn. ``protocol`` puts both under the session, and ``probes``
sees at start that all is there which they rely on. ``docs/fastio.md`` explains them on one page.
"""
