"""The simple broker: topics, queues and user destinations in this process."""
