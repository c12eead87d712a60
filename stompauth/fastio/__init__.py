"""What reaches under the public API of Twisted and Autobahn, to save what they cost.

``front`` listens, and answers requests that ``heads`` has found right in every point; all others it
leaves to twisted.web unread. ``frames`` does so with WebSocket messages, of which the others are
Autobahn's. ``output`` is the one way out of each connection: a list of octets, sent straight to the
socket at the end of the reactor's turn. ``protocol`` puts both under the session, ``transport`` is
under that, and small, and ``probes`` sees at start that all is there which they rely on.
``docs/fastio.md`` explains them on one page.
"""
