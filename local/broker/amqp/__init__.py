"""The broker by AMQP 1.0 on loopback, for the SDK of Azure Service Bus.

It needs python-qpid-proton, which nothing else imports.
"""

from local.broker.amqp.server import AmqpServer

__all__ = ["AmqpServer"]
