"""The broker relay: messages by way of RabbitMQ, over STOMP."""
