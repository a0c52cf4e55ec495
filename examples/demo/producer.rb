# frozen_string_literal: true

# Produces messages as fast as it may: `ruby producer.rb SERVERS TOPIC PARTITIONS SEED`. What it is told is the id up to
# which it may.

require "swarm_native"
require_relative "orders"
require_relative "work"

servers, topic, partitions, seed = ARGV
partitions = Integer(partitions)
seed = Integer(seed)
# A Ctrl-C reaches everybody in the terminal; the demo tells this program to stop.
trap("INT", "IGNORE")
limits = Queue.new
Demo::Orders.listen { |line| limits << line }

producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": servers, "linger.ms": 5)
last = 0
until (line = limits.pop) == "stop"
  limit = Integer(line)
  deliveries = ((last + 1)..limit).map do |id|
    producer.produce(topic: topic, payload: Demo::Work.message(id, seed), partition: id % partitions)
  end
  # A message that has not arrived is an error of the demo's, not a loss of the swarm's.
  deliveries.each { |delivery| delivery.wait(10) }
  last = limit
end
producer.close
