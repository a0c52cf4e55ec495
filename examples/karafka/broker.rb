# frozen_string_literal: true

# A Kafka for the example: in memory, with a hundred messages a second coming in.
require "swarm_native"

$stdout.sync = true
trap("TERM") { exit }

SwarmNative::Kafka::EmbeddedBroker.start(topics: { "orders" => 6 }) do |broker|
  puts "KAFKA=#{broker.bootstrap_servers}"
  producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": broker.bootstrap_servers)
  loop do
    producer.produce(topic: "orders", payload: "an order")
    sleep 0.01
  end
end
