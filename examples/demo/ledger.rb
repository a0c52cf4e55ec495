# frozen_string_literal: true

require_relative "clock"

module Demo
  # Where a process writes down which messages it has processed: the demo's own account, which neither the swarm nor
  # Kafka can touch. One file a process, one line a batch, one write a line, and the line before the batch's offsets are
  # stored: what is committed stands here.
  class Ledger
    # @param folder [String]
    # @param node [Integer]
    def initialize(folder, node)
      @file = File.open(File.join(folder, "#{node}-#{Process.pid}"), "ab")
      write([])
    end

    # @param results [Array<(Integer, Integer)>] ids of messages and what came of each
    # @raise [IOError] when the line is not there as a whole
    def write(results)
      line = +Clock.now.to_s
      results.each { |id, result| line << " " << id.to_s << ":" << result.to_s }
      line << "\n"
      raise IOError, "the ledger took a part of a line only" if @file.syswrite(line) < line.bytesize
    end
  end

  # Reads the ledgers of a folder while they grow.
  class LedgerReader
    # One line: who wrote it, when, and the results.
    Batch = Struct.new(:node, :pid, :time, :results)

    def initialize(folder)
      @folder = folder
      @read = Hash.new(0)
    end

    # @yieldparam batch [Batch] each line that has been finished since the last call, the oldest of a ledger first
    def each_new(&block)
      Dir.children(@folder).sort.each { |name| read(name, &block) }
    end

    private

    def read(name)
      text = File.binread(File.join(@folder, name), nil, @read[name])
      # Of a line that a killed process has left unfinished nothing was committed.
      finished = text && text.rindex("\n")
      return unless finished

      @read[name] += finished + 1
      node, pid = name.split("-").map(&:to_i)
      text[0..finished].each_line(chomp: true) do |line|
        time, *results = line.split
        yield Batch.new(node, pid, time.to_f, results.map { |result| result.split(":").map(&:to_i) })
      end
    end
  end

  # Whether each message was processed: at least once, and with the right result.
  class Audit
    # @return [Integer] messages that were processed, each counted once
    attr_reader :processed
    # @return [Integer] how often one was processed that had been processed already
    attr_reader :duplicates
    # @return [Integer] ids that nobody has sent
    attr_reader :strangers

    # @param messages [Integer] their ids are 1 to this
    def initialize(messages)
      @messages = messages
      @results = Array.new(messages + 1)
      @processed = @duplicates = @strangers = @unstable = 0
    end

    def record(id, result)
      if !id.between?(1, @messages)
        @strangers += 1
      elsif @results[id]
        @duplicates += 1
        @unstable += 1 if @results[id] != result
      else
        @results[id] = result
        @processed += 1
      end
    end

    # @return [Integer] messages that nobody has processed
    def lost
      @messages - @processed
    end

    def complete?
      lost.zero?
    end

    # @return [Array<Integer>] their ids, the first few
    def lost_ids(limit = 10)
      (1..@messages).lazy.reject { |id| @results[id] }.first(limit)
    end

    # @return [Integer, nil] what came of the work
    def [](id)
      @results[id]
    end

    # Results that differ from those of another run of the same messages, or between two times that one was processed.
    # @param other [Audit]
    def differing(other)
      @unstable + (1..@messages).count { |id| @results[id] && other[id] && @results[id] != other[id] }
    end
  end
end
