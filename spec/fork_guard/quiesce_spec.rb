# frozen_string_literal: true

require "spec_helper"
require_relative "../support/other_bindings"

RSpec.describe "SwarmNative::ForkGuard.quiesce", :other_bindings, :kafka do
  def run!(code, **options)
    result = run_ruby(code, env: { "BROKER" => bootstrap_servers, "TOPIC" => new_topic }, deadline: 90, **options)
    expect(result).to be_success, result.inspect
    result.out.lines(chomp: true)
  end

  it "delivers what our producers have queued, forks, and opens them again by their next use" do
    out = run!(<<~'RUBY')
      producers = Array.new(2) do
        SwarmNative::Kafka::Producer.new("bootstrap.servers": ENV["BROKER"], "linger.ms": 60_000)
      end
      deliveries = producers.map { |producer| producer.produce(topic: ENV["TOPIC"], payload: "before") }
      pid = SwarmNative::ForkGuard.quiesce do
        puts deliveries.all?(&:delivered?), SwarmNative::ForkGuard.live_handles.size
        fork do
          producers[0].produce(topic: ENV["TOPIC"], payload: "child")
        rescue SwarmNative::StaleHandle
          exit!(5)
        end
      end
      Process.wait(pid)
      puts $?.exitstatus
      first = producers[0]
      p first.closed?, first.queue_size, first.flush(1), first.purge.equal?(first)
      puts SwarmNative::ForkGuard.live_handles.size
      delivery = first.produce(topic: ENV["TOPIC"], payload: "after")
      first.flush(10)
      puts delivery.wait(10).offset, SwarmNative::ForkGuard.live_handles.map(&:to_s)
      puts first.name
      p first.close, first.closed?
      # One that is closed while it rests stays closed.
      p producers[1].close, producers[1].closed?
      begin
        producers[1].produce(topic: ENV["TOPIC"], payload: "closed")
      rescue SwarmNative::ClosedHandle
        puts "closed"
      end
    RUBY
    expect(out[0..6]).to eq %w[true 0 5 false 0 true true]
    expect(out[7..8]).to eq %w[0 2]
    expect(out[9]).to match(/\ASwarmNative::Kafka::Producer rdkafka#producer-3 \(made at example.rb:2\)\z/)
    expect(out[10..]).to eq ["rdkafka#producer-3", "{}", "true", "{}", "true", "closed"]
  end

  it "refuses what cannot be closed, before it disturbs anything else" do
    out = run!(<<~'RUBY')
      producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": ENV["BROKER"])
      consumer = SwarmNative::Kafka::Consumer.new("bootstrap.servers": ENV["BROKER"], "group.id": "g")
      begin
        SwarmNative::ForkGuard.quiesce { puts "forked" }
      rescue SwarmNative::ForkRefused => e
        puts e.handles
      end
      puts SwarmNative::ForkGuard.live_handles.size
      consumer.close
      puts SwarmNative::ForkGuard.quiesce { "forked" }
    RUBY
    expect(out).to eq ["SwarmNative::Kafka::Consumer rdkafka#consumer-2 (made at example.rb:2)", "2", "forked"]
  end

  it "refuses where messages cannot be delivered in time, and keeps them" do
    out = run!(<<~'RUBY')
      producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": "127.0.0.1:1")
      producer.produce(topic: "t", payload: "x")
      begin
        SwarmNative::ForkGuard.quiesce(timeout: 0.1) { puts "forked" }
      rescue SwarmNative::ForkRefused => e
        puts e.handles
      end
      puts producer.queue_size
      producer.close(0)
    RUBY
    expect(out).to eq ["SwarmNative::Kafka::Producer rdkafka#producer-1 (made at example.rb:1)", "1"]
  end

  it "forks beside threads that go on producing, and loses nothing of theirs" do
    out = run!(<<~'RUBY')
      SwarmNative::ForkGuard.gate_timeout = 30
      producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": ENV["BROKER"])
      stop = false
      produced = 0
      threads = Array.new(3) do
        Thread.new do
          deliveries = []
          until stop
            deliveries << producer.produce(topic: ENV["TOPIC"], payload: "x")
            produced += 1
            sleep 0.002
          end
          deliveries
        end
      end
      10.times do
        before = produced
        wait_until { produced > before + 5 }
        SwarmNative::ForkGuard.quiesce { Process.wait(fork { exit!(0) }) }
      end
      stop = true
      deliveries = threads.flat_map(&:value)
      producer.flush(10)
      puts deliveries.size > 10, deliveries.all?(&:delivered?), deliveries.map(&:offset).uniq.size == deliveries.size
      producer.close
    RUBY
    expect(out).to eq %w[true true true]
  end

  it "takes no broker's thread that has not named itself yet for a handle that it cannot close", :test_gems do
    result = run_with("karafka-rdkafka", <<~'RUBY')
      # Until then it has the name of the main thread that made it.
      SwarmNative::ForkGuard.const_get(:Core).singleton_class.prepend(Module.new do
        def librdkafka_threads
          @asked = (@asked || 0) + 1
          super + (@asked <= 2 ? [[1, "rdk:main"]] : [])
        end
      end)
      drop = open(:waterdrop)
      SwarmNative::ForkGuard.quiesce { puts fork_works }
      drop.close
    RUBY
    expect(result).to be_success, result.inspect
    expect(result.out).to eq "true\n"
  end

  it "disconnects WaterDrop's producers, which connect again by themselves", :test_gems do
    result = run_with("karafka-rdkafka", <<~'RUBY')
      drop = open(:waterdrop)
      ours = SwarmNative::Kafka::Producer.new("bootstrap.servers": ENV["BROKER"])
      SwarmNative::ForkGuard.quiesce { puts fork_works }
      puts drop.produce_sync(topic: TOPIC, payload: "again").offset
      # With a message in its buffer it does not disconnect.
      drop.buffer(topic: TOPIC, payload: "buffered")
      puts refusal { SwarmNative::ForkGuard.quiesce { fork { exit! } } }.handles
      drop.close
      puts fork_works
      # A bare handle of the binding's cannot be opened again.
      handle = open(:producer)
      puts refusal { SwarmNative::ForkGuard.quiesce { fork { exit! } } }.handles.size
      handle.close
    RUBY
    expect(result).to be_success, result.inspect
    expect(result.out.lines(chomp: true).map { |line| line.sub(/prelude:\d+/, "prelude:N") })
      .to eq ["true", "1", "WaterDrop::Producer id=drop (made at prelude:N)", "true", "1"]
  end
end
