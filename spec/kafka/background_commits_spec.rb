# frozen_string_literal: true

require "spec_helper"
require_relative "../support/kafka_broker"

# Commits that nobody waits for.
RSpec.describe "Background commits", :kafka do
  next unless SwarmNative::Kafka.available?

  let(:topic) { new_topic }

  def fill(*payloads)
    producer = open_producer
    producer.produce_many(payloads.map { |payload| { topic: topic, payload: payload } }).wait(10)
  end

  def hear_errors(consumer)
    [].tap { |errors| consumer.on_error { |error| errors << error } }
  end

  it "tell on_error of one that has failed, with the offsets and with what there was before" do
    consumer = open_consumer(topic)
    errors = hear_errors(consumer)
    wait_until(15, "an assignment") { consumer.poll_batch(1, 0.05) && consumer.assignment.any? }
    consumer.commit({ topic => { 7 => 3 } }, async: true)
    wait_until(15, "an error") { consumer.poll_batch(1, 0.05) && errors.any? }
    expect(errors.first).to have_attributes(name: :unknown_topic_or_part, code: 3, retriable?: true, fatal?: false,
                                            offsets: { topic => { 7 => 3 } })
    expect(errors.first.message).to include("a commit failed", "#{topic}/7 at 3")
    expect(errors.first.offsets).to be_frozen
  end

  it "tell of an automatic one that the group refuses to who takes partitions by hand, once in a while" do
    fill("a", "b")
    config = consumer_config("auto.commit.interval.ms": 100)
    member = keep(SwarmNative::Kafka::Consumer.new(config)).subscribe(topic)
    told_to_the_member = hear_errors(member)
    take(member, 2)
    by_hand = keep(SwarmNative::Kafka::Consumer.new(config))
    errors = hear_errors(by_hand)
    by_hand.assign(topic => { 0 => 0 })
    by_hand.store_offset(take(by_hand, 1).first)
    polls = 0
    wait_until(15, "an error") do
      [member, by_hand].each { |consumer| consumer.poll_batch(1, 0.05) }
      errors.any? && (polls += 1) > 20
    end
    expect(errors.map { |error| [error.name, error.offsets] }).to eq [[:unknown_member_id, { topic => { 0 => 1 } }]]
    expect(told_to_the_member).to eq []
  end

  it "say nothing where there was nothing to commit, and where all went well" do
    fill("a")
    consumer = open_consumer(topic, "auto.commit.interval.ms": 50)
    errors = hear_errors(consumer)
    consumer.store_offset(take(consumer, 1).first)
    wait_until(15, "a commit") { consumer.poll_batch(1, 0.05) && consumer.committed == { topic => { 0 => 1 } } }
    consumer.commit(nil, async: true)
    5.times { consumer.poll_batch(1, 0.05) }
    expect(errors).to eq []
  end

  it "are an error event of a processor, with the reason \"commit\"" do
    fill("a")
    events = []
    processor = SwarmNative::Kafka::Processor.new(config: consumer_config.except(:"enable.auto.offset.store"),
                                                  topics: topic, max_wait: 0)
    processor.on(:error) { |event| events << event && processor.stop }
    processor.run do
      consumer = processor.instance_variable_get(:@session).instance_variable_get(:@consumer)
      consumer.commit({ topic => { 9 => 1 } }, async: true)
    end
    expect(events.map { |event| [event.reason, event.error.name, event.error.offsets] })
      .to eq [["commit", :unknown_topic_or_part, { topic => { 9 => 1 } }]]
  end
end
