# frozen_string_literal: true

require "spec_helper"
require_relative "../../support/kafka_broker"

# The room for messages that wait, shared by the partitions.
RSpec.describe "The room of SwarmNative::Kafka::Processor" do
  next unless SwarmNative::Kafka.available?

  lanes_class = SwarmNative::Kafka::Processor.const_get(:Lanes)

  chunk_class = Struct.new(:topic, :partition, :first_offset, :size) do
    def bytesize = size
    def slice(start, count) = self.class.new(topic, partition, first_offset + start, [count, size - start].min)
  end

  let(:settings) { { max_batch: 10, max_wait: 60.0, max_messages: 10, max_bytes: 1000, backoff: 1.0..30.0 } }
  let(:lanes) { lanes_class.new(**settings) }

  define_method(:add) { |now, partition, size| lanes.add([chunk_class.new("t", partition, 0, size)], now) }

  define_method(:obey) do |now|
    lanes.orders(now).tap { |orders| orders.pause.each { |lane| lanes.paused(lane) } }.pause.map(&:partition)
  end

  it "is not filled by one partition, though a batch would take all of it" do
    lanes.assign("t" => [0, 1])
    expect(lanes.room(0.0)[0]).to eq 5
    add(0.0, 0, 5)
    expect(obey(lanes_class::PATIENCE)).to eq [0]
    expect(lanes.room(lanes_class::PATIENCE)[0]).to eq 2
    add(0.1, 1, 2)
    # What may have no more begins, though its batch is not full.
    expect([lanes.begin(0.1), lanes.begin(0.1)].map { |job| job&.lane&.partition }).to eq [0, 1]
  end

  it "is a partition's alone where there is no other" do
    lanes.assign("t" => [0])
    expect(lanes.room(0.0)).to eq [10, 1000]
  end

  it "has a share for each partition with something that waits, whatever order they come in" do
    [2, 3, 5, 8, 20].each do |count|
      lanes = lanes_class.new(**settings, max_messages: 40)
      lanes.assign("t" => (0...count).to_a)
      now = 0.0
      # Each partition has more than there is room for, and no worker is free.
      fetched = Hash.new(0)
      order = (0...count).to_a.shuffle(random: Random.new(count))
      paused = []
      400.times do
        orders = lanes.orders(now)
        orders.pause.each { |lane| lanes.paused(lane) && paused << lane.partition }
        orders.resume.each { |lane| lanes.resumed(lane) || paused.delete(lane.partition) }
        room = lanes.room(now)
        open = (order - paused).first
        if room && open
          lanes.add([chunk_class.new("t", open, fetched[open], room[0])], now)
          fetched[open] += room[0]
        end
        expect(lanes.size).to be <= 40
        now += 0.01
      end
      expect(fetched.keys.size).to eq(count), "#{count} partitions: #{fetched}"
    end
  end

  it "counts bytes by the same rule" do
    lanes = lanes_class.new(**settings, max_bytes: 100, max_messages: 1000, max_batch: 1000)
    lanes.assign("t" => [0, 1])
    expect(lanes.room(0.0)).to eq [500, 50]
  end

  it "lets another partition's message come while one has more than there is room for, and a job that lasts", :kafka do
    topic = new_topic(partitions: 2)
    producer = open_producer
    producer.produce_many(Array.new(40) { |i| { topic: topic, payload: i.to_s, partition: 0 } }).wait(20)
    processor = SwarmNative::Kafka::Processor.new(config: consumer_config.except(:"enable.auto.offset.store"), topics: topic,
                                                  concurrency: 2, max_batch: 10, max_messages: 10, max_wait: 0)
    paused = Queue.new
    processor.on(:paused) { |event| paused << event.partition }
    seen = Queue.new
    open = false
    runner = Thread.new do
      processor.run do |batch|
        seen << batch.payloads.last if batch.partition == 1
        wait_until(60, "the gate") { open || batch.partition == 1 }
      end
    end
    expect(wait_until(20, "a pause") { !paused.empty? && paused.pop }).to eq 0
    producer.produce(topic: topic, payload: "x", partition: 1).wait(10)
    expect(wait_until(20, "the other partition's message") { !seen.empty? && seen.pop }).to eq "x"
  ensure
    open = true
    processor&.stop
    runner&.join(30)
  end
end
