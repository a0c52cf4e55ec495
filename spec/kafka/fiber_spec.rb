# frozen_string_literal: true

require "spec_helper"
require_relative "../support/kafka_broker"
require_relative "../support/test_gems"

RSpec.describe "Kafka under a fiber scheduler", :kafka, :test_gems do
  it "yields while it waits: for messages, an answer, a flush, a commit and room in a queue" do
    topic = new_topic
    result = run_ruby(<<~RUBY, deadline: 40, env: test_gems_env, args: [bootstrap_servers, topic])
      require "async"
      K = SwarmNative::Kafka
      servers, topic = ARGV
      Async do |task|
        ticks = 0
        clock = task.async { loop { sleep 0.01; ticks += 1 } }
        counted = lambda do |name, &call|
          before = ticks
          result = call.call
          puts "\#{name} \#{ticks - before > 3 ? "yielded" : "blocked"}"
          result
        end
        consumer = K::Consumer.new("bootstrap.servers": servers, "group.id": "fiber", "auto.offset.reset": "earliest",
                                   "enable.auto.offset.store": false)
        consumer.subscribe(topic)
        counted.call("poll") { consumer.poll_batch(1, 0.3) }
        producer = K::Producer.new("bootstrap.servers": servers, "linger.ms": 300)
        batch = nil
        poller = task.async { batch = consumer.poll_batch(1, 30) until batch&.size&.positive? }
        counted.call("wait") { producer.produce(topic: topic, payload: "x").wait(10) }
        poller.wait
        puts batch[0].payload
        consumer.store_offset(batch[0])
        puts consumer.commit.values.first[0]
        dead = K::Producer.new("bootstrap.servers": "127.0.0.1:1")
        dead.produce(topic: topic, payload: "x")
        counted.call("flush") { dead.flush(0.3) }
        full = K::Producer.new("bootstrap.servers": "127.0.0.1:1", "queue.buffering.max.messages": 1,
                               queue_timeout: 0.3)
        full.produce(topic: topic, payload: "x")
        counted.call("produce") { full.produce(topic: topic, payload: "y") rescue puts $!.name }
        counted.call("produce_many") { puts full.produce_many([{ topic: topic, payload: "z" }])[0].error.name }
        full.close(0)
        waiting = task.async { consumer.poll_batch(1, 30) rescue puts $!.class }
        task.async { consumer.close }.wait
        waiting.wait
        dead.close(0)
        producer.close
        clock.stop
      end
    RUBY
    expect(result).to be_success, result.inspect
    expect(result.out.lines(chomp: true)).to eq(["poll yielded", "wait yielded", "x", "1", "flush yielded",
                                                  "queue_full", "produce yielded", "queue_full", "produce_many yielded",
                                                  "SwarmNative::ClosedHandle"]), result.inspect
  end
end
