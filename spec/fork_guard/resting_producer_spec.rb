# frozen_string_literal: true

require "spec_helper"
require_relative "../support/kafka_broker"

# What other threads may do in the midst of a rest. Each order of events is forced.
RSpec.describe "a producer at rest", :kafka do
  def run!(code, **options)
    result = run_ruby(code, env: { "BROKER" => bootstrap_servers, "TOPIC" => new_topic }, deadline: 60, **options)
    expect(result).to be_success, result.inspect
    result.out.lines(chomp: true)
  end

  it "is awake for a thread that heard of the rest when another had long ended it" do
    out = run!(<<~'RUBY')
      heard, go_on = Queue.new, Queue.new
      SwarmNative::Kafka::Producer.prepend(Module.new do
        define_method(:wake_up) do
          if Thread.current[:late]
            heard.push(true)
            go_on.pop
          end
          super()
        end
        private :wake_up
      end)
      producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": ENV["BROKER"])
      producer.rest(10)
      late = Thread.new do
        Thread.current[:late] = true
        producer.produce(topic: ENV["TOPIC"], payload: "late")
      end
      heard.pop
      puts producer.produce(topic: ENV["TOPIC"], payload: "early").wait(10).offset
      go_on.push(true)
      puts late.value.wait(10).offset, SwarmNative::ForkGuard.live_handles.size
      producer.close
      puts SwarmNative::ForkGuard.live_handles.size
    RUBY
    expect(out).to eq %w[0 1 1 0]
  end

  it "stays closed where it is closed while a thread makes it anew" do
    out = run!(<<~'RUBY')
      made, go_on = Queue.new, Queue.new
      SwarmNative::Kafka::Producer.prepend(Module.new do
        define_method(:native_reopen) do |*arguments|
          made.push(true)
          go_on.pop
          super(*arguments)
        end
        private :native_reopen
      end)
      producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": ENV["BROKER"])
      producer.rest(10)
      puts producer.closed?
      user = Thread.new do
        producer.produce(topic: ENV["TOPIC"], payload: "x")
      rescue SwarmNative::ClosedHandle => e
        e.message
      end
      made.pop
      p producer.close, producer.closed?
      go_on.push(true)
      puts user.value, producer.closed?, SwarmNative::ForkGuard.live_handles.size
    RUBY
    expect(out).to eq ["false", "{}", "true", "this SwarmNative::Kafka::Producer is closed", "true", "0"]
  end

  it "gets each message of produce_many once where it came to rest in its midst" do
    out = run!(<<~'RUBY')
      producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": ENV["BROKER"], "linger.ms": 60_000,
                                                  "queue.buffering.max.messages": 10)
      messages = Array.new(25) { |i| { topic: ENV["TOPIC"], payload: i.to_s, partition: 0 } }
      thread = Thread.new { producer.produce_many(messages) }
      # It waits for room, which nothing but a flush makes.
      wait_until { producer.queue_size == 10 && thread.stop? }
      producer.send(:native_rest, 10)
      producer.flush(1) until thread.join(0.01)
      producer.flush(10)
      offsets = thread.value.map(&:offset)
      puts offsets == (0..24).to_a || offsets
      last = producer.produce(topic: ENV["TOPIC"], payload: "last", partition: 0)
      producer.flush(10)
      puts last.offset
      producer.close
    RUBY
    expect(out).to eq %w[true 25]
  end

  it "is not made anew before another thread's quiesce is over, unless that takes long" do
    out = run!(<<~'RUBY')
      producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": ENV["BROKER"])
      SwarmNative::ForkGuard.gate_timeout = 60
      user = nil
      SwarmNative::ForkGuard.quiesce do
        user = Thread.new { producer.produce(topic: ENV["TOPIC"], payload: "x") }
        wait_until { user.stop? }
        puts SwarmNative::ForkGuard.safe?
        # Whoever quiesces may use it.
        producer.produce(topic: ENV["TOPIC"], payload: "y")
        puts SwarmNative::ForkGuard.safe?
      end
      user.value.wait(10)
      SwarmNative::ForkGuard.gate_timeout = 0.01
      SwarmNative::ForkGuard.quiesce do
        puts Thread.new { producer.produce(topic: ENV["TOPIC"], payload: "x") }.value.wait(10).offset
      end
      producer.close
    RUBY
    expect(out).to eq %w[true false 2]
  end

  it "leaves nobody waiting in a child for answers that come to its parent" do
    out = run!(<<~'RUBY', ruby: ["-W0"])
      producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": "127.0.0.1:1", "log_level": 0)
      many = producer.produce_many([{ topic: "t", payload: "x" }] * 2)
      one = producer.produce(topic: "t", payload: "y")
      pid = SwarmNative::ForkGuard.bypass do
        fork do
          [many, many.first, one].each do |answer|
            answer.wait(50)
            exit!(1)
          rescue SwarmNative::StaleHandle => e
            exit!(2) unless e.message.include?("belongs to process #{Process.ppid}, and its answer never comes")
          end
          exit!(5)
        end
      end
      Process.wait(pid)
      puts $?.exitstatus
      producer.close(0)
    RUBY
    expect(out).to eq %w[5]
  end
end
