# frozen_string_literal: true

# What a node has consumed, in a file of its own. Each batch is one write, which a KILL cannot tear.
module Soak
  # Of each node.
  CONCURRENCY = 5
  MAX_BATCH = 200

  # The same clock in all processes.
  def self.now_ms = Process.clock_gettime(Process::CLOCK_MONOTONIC, :millisecond)

  # Written by a node.
  class Record
    # Instead of a number of messages: the processor has returned, all that was done is committed.
    FINISHED = 0xffffffff

    def initialize(path)
      @file = File.open(path, "ab")
    end

    # @param payloads [Array<String>] each begins with the message's number
    def batch(payloads)
      @file.syswrite([Soak.now_ms, payloads.size, *payloads.map(&:to_i)].pack("Q>NN*"))
    end

    def finish
      @file.syswrite([Soak.now_ms, FINISHED].pack("Q>N"))
    end
  end

  # Read while it is written.
  class Reading
    # @return [Integer] of the process
    attr_reader :pid
    # @return [Boolean]
    attr_reader :finished

    def initialize(path)
      @path = path
      @pid = path[/consumed\.\d+\.(\d+)\./, 1].to_i
      @offset = 0
      @finished = false
      @batches = []
    end

    # @return [Integer] when its last batch was done
    def end_ms = @batches.empty? ? 0 : @batches.last[0]

    # @return [Integer] messages that were done from then to then
    def work_from(from, to = end_ms)
      @batches.sum { |at, count| at.between?(from, to) ? count : 0 }
    end

    # @yieldparam numbers [Array<Integer>] of each batch that is new
    def read
      text = File.binread(@path, nil, @offset)
      position = 0
      while text && text.bytesize >= position + 12
        at, count = text.unpack("Q>N", offset: position)
        size = count == Record::FINISHED ? 0 : count * 4
        break if text.bytesize < position + 12 + size

        count == Record::FINISHED ? @finished = true : add(at, count) { yield text.byteslice(position + 12, size).unpack("N*") }
        position += 12 + size
      end
      @offset += position
    end

    private

    def add(at, count)
      @batches << [at, count]
      yield
    end
  end
end
