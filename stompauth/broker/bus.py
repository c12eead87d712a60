"""What carries messages between the nodes of a distributed broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class BusListener(Protocol):
    """Who uses a bus: a broker. None of the methods raises."""

    def bus_received(self, channel: str, payload: bytes) -> None:
        """A payload came, of a channel that was asked for."""

    def bus_connected(self) -> None:
        """The bus can be used from now on; it has no interests yet."""

    def bus_lost(self) -> None:
        """Something may have been missed, and all interests are void.

        What waits for the bus has failed, or does so now.
        """


class MessageBus(Protocol):
    """Takes octets to every node that is interested, at most once.

    A *channel* is a text of printable characters. An *interest* is the name of one, or what the
    names of several begin with, followed by ``*``; no channel's name ends in ``*``.

    What one node publishes to one channel arrives in the order of the calls, at that node too. A
    payload arrives once, however many interests of a node cover its channel.

    Where the bus cannot be reached, every Deferred fails with :exc:`.Unavailable`. A call that is
    not answered in time counts as that: the bus gives the connection up, and tells its listener.
    """

    def start(self, listener: BusListener) -> None:
        """Connect, and do so again whenever the connection is lost."""

    def stop(self) -> Deferred[None]:
        """Disconnect; what waits fails, and the listener is not told of it.

        :return: fires when that is done.
        """

    def publish(self, channel: str, payload: bytes) -> Deferred[int]:
        """Hand a payload to the bus.

        :return: fires with how many nodes it is on its way to.
        """

    def subscribe(self, interest: str) -> Deferred[None]:
        """Ask for an interest that the bus does not have.

        Calls about one interest are carried out in their order, without waiting for one another.

        :return: fires when everything that is published from then on will come. What comes before
            that may be of an earlier subscription.
        """

    def unsubscribe(self, interest: str) -> None:
        """Be interested no longer; something that is under way may still come."""

    def pause(self) -> None:
        """Bring nothing for now; what the bus cannot keep meanwhile ends the connection."""

    def resume(self) -> None:
        """Go on."""
