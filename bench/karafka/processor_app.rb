# frozen_string_literal: true

# As busy_app.rb, without Karafka: a Processor for each of the two topics, in one process.
require "swarm_native"
require "swarm_native/kafka"

def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

SwarmNative.logger = nil
DONE = Hash.new(0)
CONFIG = { "bootstrap.servers": ENV.fetch("APP_SERVERS"), "auto.offset.reset": "earliest" }.freeze

# Each with a group of its own.
def process(topic, **settings, &block)
  config = { **CONFIG, "group.id": "#{ENV.fetch("APP_GROUP")}-#{topic}" }
  processor = SwarmNative::Kafka::Processor.new(config: config, topics: topic, concurrency: 1, **settings)
  Thread.new { processor.run(&block) }
end

process(ENV.fetch("APP_LIGHT")) do |batch|
  sleep 0.01 until DONE[:busy].positive?
  DONE[:light] += batch.payloads.size
end
process(ENV.fetch("APP_BUSY"), max_batch: 10) do |batch|
  batch.each do
    due = now + 0.05
    DONE[:work] += 1 while now < due
    DONE[:busy] += 1
  end
end

sleep 0.01 until DONE[:light].positive? && DONE[:busy].positive?
before, from = DONE.dup, now
# It may be done with all the light ones that there are before the time is over.
sleep 0.005 until now - from > Float(ENV.fetch("APP_SECONDS")) || DONE[:light] >= ENV.fetch("APP_COUNT").to_i
time = now - from
puts "rates #{%i[light busy work].map { |what| ((DONE[what] - before[what]) / time).round(1) }.join(" ")}"
$stdout.flush
Process.kill(:KILL, Process.pid)
