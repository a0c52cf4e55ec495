# frozen_string_literal: true

require "spec_helper"
require_relative "support/kafka_broker"

# Whoever looks a class up when its first object is made does so within a lock that a second thread waits for with the
# GVL: a process whose threads begin to produce at the same time stopped for good, once in a hundred starts.
RSpec.describe "the classes of native objects", :kafka do
  it "are looked up when the library is loaded, and not when the first object is made" do
    result = run_ruby(<<~'RUBY', env: { "BROKER" => bootstrap_servers, "TOPIC" => new_topic }, deadline: 30)
      lookups = []
      trace = TracePoint.new(:c_call) { |call| lookups << caller(1, 1) if call.method_id == :const_get }
      trace.enable do
        producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": ENV["BROKER"])
        producer.produce(topic: ENV["TOPIC"], payload: "1").wait(10)
        producer.produce_many([{ topic: ENV["TOPIC"], payload: "2" }]).wait(10)
        consumer = SwarmNative::Kafka::Consumer.new("bootstrap.servers": ENV["BROKER"], "group.id": "g",
                                                    "auto.offset.reset": "earliest")
        consumer.assign({ ENV["TOPIC"] => [0] })
        wait_until { consumer.poll(0.1) }
        [producer, consumer].each(&:close)
        SwarmNative::ForkGuard::Lease.take("A", "", "").release
        SwarmNative::Pidfd.new(Process.pid).close
        SwarmNative::Supervisor.new
      end
      p lookups
    RUBY
    expect(result.out).to eq("[]\n"), result.inspect
  end

  it "are all among those" do
    sources = Dir[File.join(ROOT, "ext/swarm_native/src/**/*.rs")].map { |file| File.read(file) }
    wrapped = sources.flat_map { |source| source.scan(/^#\[magnus(?:::wrap)?\(class = .*\n(?:#.*\n)*.*struct (\w+)/) }
    looked_up = sources.flat_map { |source| source.scan(/wrapped::look_up::<(\w+)>/) }
    expect(wrapped.size).to be > 9
    expect(wrapped.flatten - looked_up.flatten).to eq []
  end
end
