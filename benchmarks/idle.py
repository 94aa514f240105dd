"""Workers with nothing to do, as short as their libraries let one write them: for ``benchmarks/footprint``.

Each takes the broker's URL and a queue of its name from its command line.
"""

from __future__ import annotations

WORKERS = {
    "mqtool": """
import sys
from mqtool import Worker
worker = Worker(sys.argv[1])
@worker.handler(sys.argv[2])
async def handle(body: dict): ...
worker.run()
""",
    "pika (blocking)": """
import sys, pika
channel = pika.BlockingConnection(pika.URLParameters(sys.argv[1])).channel()
channel.basic_consume(sys.argv[2], lambda channel, method, properties, body: channel.basic_ack(method.delivery_tag))
channel.start_consuming()
""",
    "aio-pika": """
import asyncio, sys, aio_pika
async def handle(message):
    await message.ack()
async def main():
    connection = await aio_pika.connect_robust(sys.argv[1])
    channel = await connection.channel()
    await (await channel.get_queue(sys.argv[2], ensure=False)).consume(handle)
    await asyncio.Event().wait()
asyncio.run(main())
""",
    "faststream": """
import asyncio, sys
from faststream import FastStream
from faststream.rabbit import RabbitBroker, RabbitQueue
broker = RabbitBroker(sys.argv[1])
@broker.subscriber(RabbitQueue(sys.argv[2], declare=False))
async def handle(body: dict): ...
asyncio.run(FastStream(broker).run())
""",
    "dramatiq (1 thread)": """
import sys, threading, dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
broker = RabbitmqBroker(url=sys.argv[1], confirm_delivery=True)
dramatiq.set_broker(broker)
@dramatiq.actor(queue_name="dramatiq.idle")
def handle(body): ...
dramatiq.Worker(broker, worker_threads=1).start()
threading.Event().wait()
""",
    "taskiq": """
import asyncio, sys
from taskiq.api import run_receiver_task
from taskiq_aio_pika import AioPikaBroker, Queue
broker = AioPikaBroker(sys.argv[1], task_queues=[Queue(name="taskiq.idle")])
@broker.task
async def handle(body: dict): ...
broker.is_worker_process = True
asyncio.run(run_receiver_task(broker, run_startup=True))
""",
    "celery (solo)": """
import sys
from celery import Celery
from kombu import Queue
app = Celery("idle", broker=sys.argv[1])
kind = {"x-queue-type": "quorum"}
app.conf.update(
    task_queues=[Queue(sys.argv[2], exchange="", routing_key=sys.argv[2], no_declare=True, queue_arguments=kind)]
)
@app.task
def handle(body): ...
app.worker_main(["worker", "-P", "solo", "-Q", sys.argv[2], "-l", "CRITICAL"])
""",
}

#: The queue of each, where it makes its own.
OWN_QUEUES = {"dramatiq (1 thread)": "dramatiq.idle", "taskiq": "taskiq.idle"}
