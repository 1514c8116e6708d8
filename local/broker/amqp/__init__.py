"""The AMQP 1.0 door: the broker on loopback, for the SDK of Azure Service Bus.

It needs python-qpid-proton, which nothing else imports.
"""

from local.broker.amqp.door import AmqpDoor

__all__ = ["AmqpDoor"]
