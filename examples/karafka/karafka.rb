# frozen_string_literal: true

# A Karafka application, for `karafka swarm`. See README.md beside it.
require "karafka"
require "swarm_native/karafka" unless ENV["PLAIN"]

# Work for the processor, so that one process has one core of it.
class OrdersConsumer < Karafka::BaseConsumer
  def consume
    messages.each { |message| (1..20_000).sum { |i| i ^ message.offset } }
    puts "node #{Karafka::App.config.swarm.node && Karafka::App.config.swarm.node.id} (pid #{Process.pid}) consumed #{messages.size} of " \
         "partition #{messages.metadata.partition}"
  end
end

class OrdersApp < Karafka::App
  setup do |config|
    config.kafka = { "bootstrap.servers": ENV.fetch("KAFKA", "127.0.0.1:9092"), "auto.offset.reset": "earliest" }
    config.client_id = "orders"
    config.swarm.nodes = Integer(ENV.fetch("NODES", "3"))
  end

  routes.draw do
    topic(:orders) { consumer OrdersConsumer }
  end
end

unless ENV["PLAIN"]
  SwarmNative::Karafka.setup { |config| config.memory_limit = 512 * 1024 * 1024 }
  Karafka.monitor.subscribe("swarm_native.node_exited") { |event| puts "why: #{event[:reason]}" }
end
