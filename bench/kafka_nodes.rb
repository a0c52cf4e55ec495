# frozen_string_literal: true

# A job that burns CPU on two nodes of a swarm against one, on a real Kafka on the same machine.
#
#   ROUNDS=5 bin/bench kafka_nodes

require "swarm_native"
require_relative "support"
require_relative "../spec/support/real_kafka"

APP = File.join(__dir__, "kafka", "node_app.rb")
SECONDS = Bench.times(8, 1)
PARTITIONS = 4

unless RealKafka.available?
  puts "  left out: it needs Java and Maven"
  exit
end

# @return [Float] messages a second
def rate(kafka, nodes)
  output = IO.popen([RbConfig.ruby, APP, kafka.bootstrap_servers, "job", nodes.to_s, SECONDS.to_s], &:read)
  raise "the swarm of #{nodes} failed: #{output}" unless $?.success?

  Float(output[/^rate (\S+)/, 1])
end

RealKafka.start(partitions: PARTITIONS) do |kafka|
  producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": kafka.bootstrap_servers)
  # More than two nodes do in the time.
  Bench.times(20_000, 2_000).times { |i| producer.produce(topic: "job", payload: "x", partition: i % PARTITIONS) }
  producer.close
  one, two = Array.new(Integer(ENV.fetch("ROUNDS", Bench.times(5, 1)))) { [1, 2].map { |nodes| rate(kafka, nodes) } }.transpose
  per_message = ->(rates) { 1000 / Bench.percentile(rates, 50) }
  # 1.9 times the messages in the same time.
  Bench.report("a job that burns CPU on two nodes", "ms a message", per_message.call(two),
               { "on one" => per_message.call(one) }, ratio_goal: 1 / 1.9)
end
