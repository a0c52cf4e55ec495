# frozen_string_literal: true

module Soak
  # Messages under strikes: nodes are killed, told to stop, frozen and thawed, from a seed; the supervisor is killed and
  # started again once, and so is the broker.
  class Strikes
    # Strike and how often, of the sum.
    KINDS = { KILL: 30, TERM: 30, STOP: 20, CONT: 20 }.freeze
    DECK = KINDS.flat_map { |kind, times| [kind] * times }.freeze

    def initialize(kafka, seed, messages:, seconds:, nodes:, partitions:, protocol:)
      @kafka = kafka
      @random = Random.new(seed)
      @messages = messages
      @seconds = seconds
      @partitions = partitions
      @fleet = Fleet.new(kafka.bootstrap_servers, TOPIC, nodes, protocol)
      @made = Hash.new(0)
    end

    # @return [Array<String>] what does not add up
    def run
      producing = Thread.new { Soak.produce(@kafka.bootstrap_servers, @partitions, 0...@messages, @seconds) }
      strike
      @fleet.thaw
      undelivered = producing.value
      ledger = Ledger.new(@messages)
      Soak.all_consumed?(ledger, @messages)
      stopped = @fleet.stop
      ledger.read
      report(ledger)
      undelivered + @fleet.problems + stopped + problems(ledger)
    ensure
      @fleet.end_all
    end

    private

    def strike
      begun = Soak.now
      at = { supervisor: @seconds / 3, broker: @seconds * 2 / 3 }
      while Soak.now < begun + @seconds
        sleep @random.rand(1.5)
        at.reject! do |what, due|
          next false if Soak.now < begun + due

          what == :supervisor ? @fleet.restart : restart_broker
          @made[what] += 1
        end
        kind = DECK.sample(random: @random)
        @made[kind] += 1 if @fleet.hit(kind, @random)
      end
    end

    def restart_broker
      @fleet.keep_all do
        @kafka.kill
        sleep @random.rand(1.0..3.0)
        @kafka.go_on
      end
    end

    def problems(ledger)
      lost = @messages - ledger.seen
      allowed = ledger.allowed(@fleet.kept)
      found = []
      found << "#{lost} of #{@messages} messages lost, #{ledger.first_lost} the first" if lost.positive?
      found << "#{ledger.again} consumed again, allowed are #{allowed}" if ledger.again > allowed
      missing = KINDS.keys - @made.keys
      found << "not struck by #{missing.join(", ")}: take more seconds" unless missing.empty?
      found << "the supervisor and the broker were not restarted once each" unless @made.values_at(:supervisor, :broker) == [1, 1]
      found
    end

    def report(ledger)
      puts "#{@made.values.sum} strikes: #{words(@made)}"
      puts "#{@messages} messages, #{ledger.seen} consumed, #{ledger.again} times one again " \
           "(allowed are #{ledger.allowed(@fleet.kept)}: the work in flight, and of half a second, of each process that was struck)"
      puts "events: #{words(@fleet.events)}"
    end

    def words(counts) = counts.sort_by { |_, count| -count }.map { |name, count| "#{name} #{count}" }.join(", ")
  end
end
