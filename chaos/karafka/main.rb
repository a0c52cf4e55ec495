# frozen_string_literal: true

# Strikes a Karafka swarm that consumes from a real Kafka, its supervisor once too, and then counts: every message has to
# have been processed at least once, and no process may be left.

require "optparse"
require "tmpdir"
require "swarm_native"
require_relative "../../spec/support/real_kafka"
require_relative "../../spec/support/test_gems"
require_relative "swarm"

options = { seconds: 600, messages: 200_000, seed: Random.new_seed % 1_000_000, nodes: 4, servers: nil, partitions: 12 }
OptionParser.new do |parser|
  parser.banner = "usage: bin/chaos --karafka [options]"
  parser.on("--seconds N", Float, "how long to strike (#{options[:seconds]})") { |value| options[:seconds] = value }
  parser.on("--messages N", Integer, "how many come in meanwhile (#{options[:messages]})") { |value| options[:messages] = value }
  parser.on("--seed N", Integer, "what chance is made of (any)") { |value| options[:seed] = value }
  parser.on("--nodes N", Integer, "how many nodes (#{options[:nodes]})") { |value| options[:nodes] = value }
  parser.on("--servers LIST", "a Kafka that is there already") { |value| options[:servers] = value }
  parser.on("--partitions N", Integer, "of a topic on it (#{options[:partitions]})") { |value| options[:partitions] = value }
end.parse!

module KarafkaChaos
  # How long the swarm may take to consume the rest once nobody strikes: a frozen node's report timeout, its time to
  # stop, and the broker's session timeout.
  REST = 120

  # Strike and how often, of the sum.
  STRIKES = { kill: 40, freeze: 15, term: 30, go_on: 15 }.freeze
  DECK = STRIKES.flat_map { |kind, times| [kind] * times }.freeze

  class << self
    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

    def run(servers:, partitions:, **options)
      return chaos(servers, partitions, **options) if servers

      RealKafka.start(partitions: partitions) { |kafka| chaos(kafka.bootstrap_servers, partitions, **options) }
    end

    private

    def chaos(servers, partitions, seconds:, messages:, seed:, nodes:)
      puts "seed #{seed}"
      swarm = Swarm.new(servers, nodes)
      producing = Thread.new { produce(swarm.topic, servers, partitions, messages, seconds) }
      made = strike(swarm, Random.new(seed), seconds)
      producing.value
      report(swarm, made, problems(swarm, messages), messages)
    ensure
      swarm&.kill
    end

    # Evenly over the time.
    def produce(topic, servers, partitions, messages, seconds)
      producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": servers)
      begun = now
      messages.times do |number|
        sleep 0.005 while (now - begun) / seconds < number.fdiv(messages)
        producer.produce(topic: topic, payload: number.to_s, partition: number % partitions)
      end
      producer.flush(60)
    ensure
      producer.close
    end

    # @return [Hash{Symbol => Integer}] how many of which
    def strike(swarm, random, seconds)
      made = Hash.new(0)
      deadline = now + seconds
      restart_at = now + (seconds / 2)
      while now < deadline
        sleep random.rand(1.5)
        if restart_at && now >= restart_at
          swarm.restart
          restart_at = nil
          made[:supervisor] += 1
        end
        kind = DECK.sample(random: random)
        made[kind] += 1 if swarm.public_send(kind, random)
      end
      made
    end

    # @return [Array<String>] what does not add up
    def problems(swarm, messages)
      swarm.thaw
      rest = now + REST
      sleep 0.2 until swarm.consumed.size == messages || now > rest
      lost = messages - swarm.consumed.size
      found = swarm.problems
      found << "#{lost} of #{messages} messages lost, #{(0...messages).find { |it| !swarm.consumed.key?(it) }} the first" if lost.positive?
      found + swarm.stop
    end

    def report(swarm, made, found, messages)
      duplicates = swarm.consumed.sum { |_, times| times - 1 }
      puts "#{made.values.sum} strikes: #{words(made)}"
      puts "#{messages} messages, #{swarm.consumed.size} processed, #{duplicates} of them processed again"
      puts "ends: #{words(swarm.ends)}", "errors: #{words(swarm.errors)}"
      puts found.empty? ? "everything adds up" : found.map { |problem| "PROBLEM: #{problem}" }
      exit found.empty?
    end

    def words(counts) = counts.sort_by { |_, count| -count }.map { |name, count| "#{name} #{count}" }.join(", ")
  end
end

abort "It needs Java and Maven, for a real Kafka." unless options[:servers] || RealKafka.available?
abort "It needs the gems of #{TestGems::SOURCE}." unless TestGems.available?
Dir.mktmpdir("karafka-chaos") do |scratch|
  Dir.chdir(scratch) { KarafkaChaos.run(**options) }
end
