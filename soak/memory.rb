# frozen_string_literal: true

module Soak
  # Memory after ten times as many messages: what a process has for itself (RssAnon), without what it only maps and
  # without what the allocator keeps though it is free, which is more on a machine that has other work.
  class Memory
    TIMES = 10
    # How much more is not yet a leak: a collector is lazy.
    SHARE = 1.1
    BYTES = 2 * 1024 * 1024
    # Seconds that a node may take to give back what is free.
    TRIMMING = 20

    def initialize(kafka, messages:, seconds:, nodes:, partitions:, protocol:)
      @kafka = kafka
      @messages = messages
      @seconds = seconds
      @partitions = partitions
      @fleet = Fleet.new(kafka.bootstrap_servers, TOPIC, nodes, protocol)
    end

    # @return [Array<String>] what does not add up
    def run
      ledger = Ledger.new(@messages * TIMES)
      after_one = pass(ledger, 0...@messages)
      return after_one if after_one.is_a?(Array)

      after_all = pass(ledger, @messages...(@messages * TIMES))
      return after_all if after_all.is_a?(Array)

      puts "RssAnon after #{@messages} and #{@messages * TIMES} messages, in MB:"
      after_one.each { |pid, bytes| puts "  node #{pid}: #{megabytes(bytes)}, #{megabytes(after_all[pid])}" }
      grown(after_one, after_all) + @fleet.stop
    ensure
      @fleet.end_all
    end

    private

    # @return [Hash{Integer => Integer}, Array<String>] bytes by node, or what went wrong
    def pass(ledger, numbers)
      found = Soak.produce(@kafka.bootstrap_servers, @partitions, numbers, @seconds * numbers.size / @messages / TIMES)
      return found unless found.empty?
      return ["#{ledger.seen} messages consumed of #{numbers.end}"] unless Soak.all_consumed?(ledger, numbers.end)

      trimmed = @fleet.nodes.map { |pid| "trimmed.#{pid}" }
      @fleet.tell_all(:USR2)
      deadline = Soak.now + TRIMMING
      sleep 0.05 until trimmed.all? { |file| File.exist?(file) } || Soak.now > deadline
      missing = trimmed.reject { |file| File.exist?(file) }
      return ["nodes have not given back what is free: #{missing}"] unless missing.empty?

      File.delete(*trimmed)
      @fleet.nodes.to_h { |pid| [pid, File.read("/proc/#{pid}/status")[/^RssAnon:\s+(\d+)/, 1].to_i * 1024] }
    end

    def grown(before, after)
      return ["nodes were replaced: #{before.keys} before, #{after.keys} after"] unless before.keys.sort == after.keys.sort

      before.select { |pid, bytes| after[pid] > (bytes * SHARE) + BYTES }
            .map { |pid, bytes| "node #{pid} has grown from #{megabytes(bytes)} to #{megabytes(after[pid])} MB" }
    end

    def megabytes(bytes) = (bytes / 1024.0 / 1024).round(1)
  end
end
