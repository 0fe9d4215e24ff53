"""What other services install: typed events, a client that sends them, a subscriber that reads lists.

Reading order: events (the wire contract) · client (EventProducer; checking refuses) · subscriber (Subscriber) ·
datasets (real data sets as event streams; fetch gets their files) · replay (a data set or a file onto the topic,
at a rate) · simulate (drifting tastes from a seed).

Nothing in this package imports torch: the base installation of Headrace is enough for it.
"""
