# frozen_string_literal: true

# Sends messages through a swarm of processors on a real Kafka, and counts: each has to be consumed at least once, and no
# more than the batches in flight and a second's work again for each strike. See --help.

require "optparse"
require "tmpdir"
require "swarm_native"
require_relative "../spec/support/real_kafka"
require_relative "fleet"
require_relative "ledger"
require_relative "memory"
require_relative "strikes"

options = { messages: 1_000_000, seconds: 300, seed: Random.new_seed % 1_000_000, nodes: 4, partitions: 12,
            protocol: "consumer", memory: false }
OptionParser.new do |parser|
  parser.banner = "usage: bin/soak [options]"
  parser.on("--messages N", Integer, "how many (#{options[:messages]})") { |value| options[:messages] = value }
  parser.on("--seconds N", Float, "how long they come in, under strikes (#{options[:seconds]})") do |value|
    options[:seconds] = value
  end
  parser.on("--seed N", Integer, "what chance is made of (any)") { |value| options[:seed] = value }
  parser.on("--nodes N", Integer, "how many nodes (#{options[:nodes]})") { |value| options[:nodes] = value }
  parser.on("--partitions N", Integer, "of the topic (#{options[:partitions]})") { |value| options[:partitions] = value }
  parser.on("--protocol NAME", %w[consumer classic], "of the group (#{options[:protocol]})") do |value|
    options[:protocol] = value
  end
  parser.on("--memory", "compare memory after ten times as many messages, without strikes") { options[:memory] = true }
end.parse!
options.slice(:messages, :seconds, :nodes, :partitions).each do |name, value|
  abort "--#{name} has to be positive, not #{value}" unless value.positive?
end

module Soak
  # Seconds that the rest may take once nobody strikes and all is sent.
  REST = 300
  TOPIC = "soak"
  # Like a message of 100 bytes.
  PADDING = " #{"x" * 92}"

  class << self
    def now = now_ms / 1000.0

    # Sends these numbers, evenly over the time.
    # @return [Array<String>] what went wrong
    def produce(servers, partitions, numbers, seconds)
      producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": servers, "enable.idempotence": true, "linger.ms": 5,
                                                  "compression.type": "lz4", "message.timeout.ms": 280_000)
      failed = 0
      producer.on_delivered { |deliveries| failed += deliveries.count(&:error) }
      begun = now
      numbers.each_slice(500) do |slice|
        sleep 0.005 while (now - begun) / seconds < (slice[0] - numbers.begin).fdiv(numbers.size)
        producer.produce_many(slice.map do |number|
          { topic: TOPIC, partition: number % partitions, payload: "#{number}#{PADDING}" }
        end)
      end
      undelivered = producer.close(REST).values.sum
      [("#{[failed, undelivered].max} messages were not delivered" if failed + undelivered > 0)].compact
    rescue StandardError => e
      ["the producer failed: #{e.message} (#{e.class})"]
    end

    # Waits until so many different messages are consumed.
    # @return [Boolean]
    def all_consumed?(ledger, count)
      deadline = now + REST
      sleep 0.2 until ledger.read.seen >= count || now > deadline
      ledger.seen >= count
    end

    def run(memory:, seed:, **options)
      puts "seed #{seed}"
      RealKafka.start(partitions: options[:partitions]) do |kafka|
        problems = memory ? Memory.new(kafka, **options).run : Strikes.new(kafka, seed, **options).run
        puts problems.empty? ? "everything adds up" : problems.map { |problem| "PROBLEM: #{problem}" }
        exit problems.empty?
      end
    end
  end
end

abort "It needs Java and Maven, for a real Kafka." unless RealKafka.available?
$stdout.sync = true
SwarmNative.logger = nil
Dir.mktmpdir("swarm-soak") do |scratch|
  Dir.chdir(scratch) { Soak.run(**options) }
end
