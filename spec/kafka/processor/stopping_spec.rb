# frozen_string_literal: true

require "spec_helper"
require_relative "../../support/processors"

RSpec.describe "SwarmNative::Kafka::Processor", :kafka do
  include_context "with processors"

  describe "#quiet" do
    it "lets what runs end, commits it, begins nothing, and stays in the group" do
      topic = topic_with((0...20).map(&:to_s))
      open = false
      seen = Queue.new
      processor = processor(topic, max_batch: 5)
      start(processor) do |batch|
        seen << batch.payloads.size
        wait_until(20, "the gate") { open }
      end
      # Of five messages, where that many were there.
      size = wait_until(20, "work") { !seen.empty? && seen.pop }
      processor.quiet
      wait_until(20, "the pause") { named(:paused).any? { |event| event.reason == "quiet" } }
      open = true
      wait_until(20, "the commit") { committed(topic)[0] == size }
      expect([seen.size, processor.quiet?, processor.running?, named(:revoked)]).to eq [0, true, true, []]
      stop(processor)
      expect([processor.quiet?, processor.running?]).to eq [false, false]
    end
  end

  describe "#stop" do
    it "ends a job at its end, and begins no other" do
      topic = topic_with((0...20).map(&:to_s))
      open = false
      seen = Queue.new
      processor = processor(topic, max_batch: 5)
      thread = start(processor) do |batch|
        seen << batch
        wait_until(20, "the gate") { open }
      end
      batch = wait_until(20) { !seen.empty? && seen.pop }
      processor.stop
      wait_until(10) { batch.stopping? }
      expect([thread.alive?, processor.jobs]).to eq [true, ["#{topic}/0 from offset 0 on (5 messages)"]]
      open = true
      expect(thread.value).to equal processor
      expect([seen.size, committed(topic)]).to eq [0, { 0 => 5 }]
    end

    it "begins no other after the one that asks for it" do
      topic = topic_with((0...20).map(&:to_s))
      seen = Queue.new
      processor = processor(topic, max_batch: 1)
      thread = start(processor) do |batch|
        seen << batch
        processor.stop
      end
      expect(thread.join(60)).to be_truthy
      expect([seen.size, committed(topic)]).to eq [1, { 0 => 1 }]
    end

    it "gives up jobs at the shutdown_timeout, and names them" do
      topic = topic_with(%w[a])
      inside = Queue.new
      processor = processor(topic, shutdown_timeout: 0.2)
      start(processor) { inside << true and sleep }
      wait_until(20) { !inside.empty? }
      stop(processor)
      error = named(:error).last
      expect([error.reason, error.error]).to match ["shutdown", an_instance_of(SwarmNative::ForcefulShutdown)]
      expect(error.error.message).to match(%r{within 0.2 s: #{topic}/0 from offset 0 on \(1 messages\), running for \d})
      expect(committed(topic)).to eq({})
      expect(Thread.list.map(&:name).compact.grep(/swarm (worker|processor)/)).to eq []
    end

    it "gives up jobs at the shutdown_timeout also while the group waits for them" do
      topic = topic_with(%w[a b], partitions: 2)
      inside = Queue.new
      first = processor(topic, revoke_timeout: 60.0, shutdown_timeout: 1.0)
      start(first) { |batch| inside << batch and sleep }
      batches = Array.new(2) { wait_until(20) { !inside.empty? && inside.pop } }
      start(processor(topic)) {}
      wait_until(20, "the group's wish") { batches.any?(&:revoked?) }
      start_time = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      stop(first)
      expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start_time).to be < 20
      shutdown = named(:error).find { |event| event.reason == "shutdown" }
      expect(shutdown.error.message.scan(%r{#{topic}/\d}).sort).to eq ["#{topic}/0", "#{topic}/1"]
    end

    it "counts the shutdown_timeout from the stop on, also where a block keeps the listener from seeing it" do
      topic = topic_with(%w[a b c])
      processor = processor(topic, max_batch: 1, max_messages: 1, shutdown_timeout: 3.0)
      now = -> { Process.clock_gettime(Process::CLOCK_MONOTONIC) }
      stopped = nil
      processor.on(:paused) do
        processor.stop
        stopped ||= now.call
        sleep 0.01 until now.call > stopped + 3.2
      end
      start(processor) { sleep }
      wait_until(60, "the end") { !processor.running? && stopped }
      expect(now.call - stopped).to be < 6
      expect(named(:error).map(&:reason)).to eq %w[shutdown]
    end

    it "may come before the run, and one that has run may run again" do
      topic = topic_with(%w[a])
      processor = processor(topic)
      processor.stop
      expect(processor.run { raise "never" }).to equal processor
      expect(processor.stopping?).to be false
      start(processor) { processor.stop }
      wait_until(20) { !processor.running? && named(:consumed).any? }
    end
  end

  it "ends with an exception out of a thread that is told to, and leaves nothing behind" do
    topic = topic_with(%w[a])
    inside = Queue.new
    thread = start(processor(topic)) { inside << true }
    wait_until(20) { !inside.empty? }
    thread.raise(IOError, "out")
    expect { thread.value }.to raise_error(IOError, "out")
    expect(committed(topic)).to eq(0 => 1)
    expect(Thread.list.map(&:name).compact.grep(/swarm (worker|processor)/)).to eq []
  end
end
