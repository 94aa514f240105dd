"""Side-by-side measurements of mqtool and other clients of RabbitMQ. Not part of the distribution."""
