# frozen_string_literal: true

# A swarm of so many nodes, each with a Processor of one worker, whose messages cost a fixed amount of CPU. It says how
# many messages the nodes have done in so many seconds, once each of them has begun.
#
#   node_app.rb SERVERS TOPIC NODES SECONDS

require "swarm_native"
require "swarm_native/kafka"

servers, topic, nodes, seconds = ARGV
nodes = Integer(nodes)
# Some 5 ms.
ROUNDS = 300_000

SwarmNative.logger = nil
done = nodes.times.map { IO.pipe }
config = { "bootstrap.servers": servers, "group.id": "#{topic}-#{Process.pid}", "auto.offset.reset": "earliest" }

supervisor = SwarmNative::Supervisor.new(nodes: nodes)
counter = Thread.new do
  counts = Array.new(nodes, 0)
  read = lambda do |due|
    while (left = due ? due - Process.clock_gettime(Process::CLOCK_MONOTONIC) : 0.1).positive?
      ready, = IO.select(done.map(&:first), nil, nil, left)
      ready&.each { |pipe| counts[done.index { |it, _| it.equal?(pipe) }] += pipe.readpartial(4096).bytesize }
      break unless due
    end
  end
  read.call(nil) until counts.none?(&:zero?)
  before, start = counts.sum, Process.clock_gettime(Process::CLOCK_MONOTONIC)
  read.call(start + Float(seconds))
  puts "rate #{(counts.sum - before) / (Process.clock_gettime(Process::CLOCK_MONOTONIC) - start)} #{counts.join(" ")}"
  supervisor.stop
end

supervisor.run do |node|
  write = done.fetch(node.id).last
  processor = SwarmNative::Kafka::Processor.new(config: config, topics: topic, concurrency: 1, max_batch: 10)
  processor.run(node) do |batch|
    batch.each do
      ROUNDS.times { nil }
      write.syswrite(".")
    end
  end
end
counter.join
