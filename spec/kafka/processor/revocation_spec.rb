# frozen_string_literal: true

require "spec_helper"
require_relative "../../support/processors"

RSpec.describe "SwarmNative::Kafka::Processor and its group", :kafka do
  include_context "with processors"

  describe "a revocation" do
    # Has a second member come, so that one of the two partitions goes to it.
    def second_member(topic, **settings, &work)
      processor(topic, **settings).tap { |second| start(second, &work) }
    end

    it "waits for the job, which is committed before anybody else has the partition" do
      topic = topic_with(%w[a b], partitions: 2)
      open = false
      inside = Queue.new
      first = processor(topic, revoke_timeout: 60.0)
      start(first) do |batch|
        inside << batch
        wait_until(30, "the gate") { open }
      end
      batches = Array.new(2) { wait_until(20) { !inside.empty? && inside.pop } }
      elsewhere = Queue.new
      second_member(topic) { |batch| elsewhere << batch.payloads }
      wait_until(20, "the group's wish") { batches.any?(&:revoked?) }
      expect(elsewhere).to be_empty
      open = true
      wait_until(20, "both commits") { committed(topic) == { 0 => 1, 1 => 1 } }
      wait_until(20, "the revocation") { named(:revoked).any? && named(:assigned).size >= 2 }
      expect([elsewhere.size, named(:error)]).to eq [0, []]
    end

    it "drops the result of a job that takes too long, and the work is done elsewhere" do
      topic = topic_with(%w[a b], partitions: 2)
      open = false
      inside = Queue.new
      results = []
      first = processor(topic, revoke_timeout: 0.1)
      start(first) do |batch|
        inside << batch
        wait_until(30, "the gate") { open }
        results << batch.done(batch.last)
      end
      2.times { wait_until(20) { !inside.empty? && inside.pop } }
      elsewhere = Queue.new
      second_member(topic) { |batch| elsewhere << [batch.partition, batch.payloads] }
      moved, payloads = wait_until(30, "the work elsewhere") { !elsewhere.empty? && elsewhere.pop }
      expect(payloads).to eq [moved.zero? ? "a" : "b"]
      late = named(:error).find { |event| event.reason == "revoked" }
      expect([late.partition, late.error.message]).to match [moved, /#{topic}\/#{moved} from offset 0 on.* is dropped/]
      open = true
      wait_until(20, "both results") { results.size == 2 }
      expect(results.sort_by(&:to_s)).to eq [false, true]
    end
  end

  it "goes on with a partition that was taken while it waited for its next attempt, once it is back" do
    topic = topic_with(%w[a b], partitions: 2)
    seen = Queue.new
    start(processor(topic, backoff_min: 30.0)) do |batch|
      raise "not yet" unless batch.payloads.include?("again")

      seen << batch.partition
    end
    wait_until(20, "two failures") { named(:paused).map(&:partition).sort == [0, 1] }
    elsewhere = Queue.new
    second = processor(topic)
    start(second) { |batch| elsewhere << batch.partition }
    moved = wait_until(30, "the work elsewhere") { !elsewhere.empty? && elsewhere.pop }
    stop(second)
    open_producer.produce(topic: topic, payload: "again", partition: moved).wait(10)
    expect(wait_until(30, "the partition that is back") { !seen.empty? && seen.pop }).to eq moved
  end
end
