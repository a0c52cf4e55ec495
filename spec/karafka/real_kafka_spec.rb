# frozen_string_literal: true

require "support/karafka_app"
require "support/on_real_kafka"

# Says which node consumes which partition, and what a rebalance takes away.
TELL_PARTITIONS = <<~'RUBY'
  class Consumer
    def consume = say("partition", Process.pid, messages.metadata.partition, Karafka::App.config.swarm.node.id)
  end
  Karafka.monitor.subscribe("rebalance.partitions_revoked") { say "revoked", Process.pid }
RUBY

KarafkaApp::VERSIONS.each do |version|
  RSpec.describe "the drop-in on a real Kafka, Karafka #{version}", :karafka, :kafka, :test_gems, :real_kafka do
    # Produces to all partitions all the time while the block runs.
    def while_producing(topic)
      producer = open_producer
      stop = false
      producing = Thread.new do
        until stop
          OnRealKafka::PARTITIONS.times { |partition| producer.produce(topic: topic, payload: "x", partition: partition) }
          sleep 0.02
        end
      end
      yield
    ensure
      stop = true
      producing.join
    end

    # Kills a node once each partition is consumed from, and both nodes consume.
    # @return [Array(Proc, Array<Integer>)] the one gives the partitions that its replacement, the same static member,
    #   has consumed from so far, the other are those that were its own
    def kill_one(app)
      owners = wait_until(KarafkaApp::PATIENCE, "an owner of each partition") do
        found = app.lines("partition").last(50).map { |line| line.split[1..].map(&:to_i) }
        found = found.to_h { |pid, partition, node| [partition, [pid, node]] }
        found if found.size == OnRealKafka::PARTITIONS && found.values.uniq.size == 2
      end
      app.wait_until_ready(2)
      pid, node = owners.values.first
      lost = owners.select { |_, owner| owner.first == pid }.keys
      Process.kill(:KILL, pid)
      again = lambda do
        told = app.lines("partition").map { |line| line.split[1..].map(&:to_i) }
        told.select { |other, _, its| other != pid && its == node }.map { |_, partition| partition }.uniq
      end
      [again, lost]
    end

    def static(topic, more = "")
      <<~RUBY
        #{TELL_PARTITIONS}
        App.config.kafka.merge!("group.instance.id": "#{topic}", #{more})
        App.routes.clear
        App.routes.draw { topic(ENV.fetch("APP_TOPIC")) { consumer Consumer } }
      RUBY
    end

    it "has a killed node's partitions consumed from again at once, as the same static member, and takes nothing from others" do
      topic = new_topic
      while_producing(topic) do
        result = run_karafka(static(topic, '"session.timeout.ms": 45_000'), version: version, nodes: 2, topic: topic) do |app|
          again, lost = kill_one(app)
          # The first node had all partitions until the second came.
          revoked = app.lines("revoked")
          # Without static membership its session has to end first, 45 s; plain Karafka replaces it after 30 s.
          killed_at = Process.clock_gettime(Process::CLOCK_MONOTONIC)
          wait_until(10, "a message for the replacement from its partitions") { again.call.intersect?(lost) }
          expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - killed_at).to be < 20
          expect(app.lines("revoked")).to eq(revoked)
          app.signal("TERM")
        end
        expect(result.status.exitstatus).to eq(0)
      end
    end

    # karafka-rdkafka 0.21 knows this protocol as a preview only.
    it "has a static member of a KIP-848 group come back once the group lets it", if: RUBY_VERSION >= "3.2" do
      topic = new_topic
      while_producing(topic) do
        setup = <<~RUBY
          App.config.kafka.delete(:"session.timeout.ms")
          App.config.kafka.delete(:"heartbeat.interval.ms")
          #{static(topic, '"group.protocol": "consumer"')}
        RUBY
        result = run_karafka(setup, version: version, nodes: 2, topic: topic) do |app|
          again, = kill_one(app)
          app.wait_for(/^error\.occurred \d+ connection\.client\.poll\.error,.*unreleased_instance_id/)
          # Others may have had its partitions meanwhile, so that it gets some, not necessarily these.
          wait_until(KarafkaApp::PATIENCE, "a message for the replacement") { again.call.any? }
          app.signal("TERM")
        end
        expect(result.status.exitstatus).to eq(0)
      end
    end

    it "stops a node gracefully by a TERM at any moment of its life, from its fork on" do
      seed = Random.new_seed
      random = Random.new(seed)
      setup = <<~RUBY
        SwarmNative::Karafka.setup do |config|
          config.restart_backoff = 0.01..0.05
          config.crash_loop_limit = 1_000
        end
      RUBY
      topic = new_topic
      produce(topic, 3)
      result = run_karafka(setup, version: version, topic: topic) do |app|
        app.wait_until_ready
        told = []
        15.times do
          pid = wait_until(KarafkaApp::PATIENCE, "the next node") { (app.children - told).first }
          told << pid
          sleep random.rand(0.08)
          Process.kill(:TERM, pid)
          ended = app.wait_for(/^native\.node_exited #{pid} .*$/)
          expect(ended.to_s).to match(/ exited .*\(exit 0\)/), "#{ended} (seed #{seed})"
        end
        app.signal("TERM")
      end
      expect(result.status.exitstatus).to eq(0)
    end
  end
end
