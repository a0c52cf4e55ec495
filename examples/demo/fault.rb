# frozen_string_literal: true

require_relative "clock"

module Demo
  # One fault, from the moment it struck until the node's replacement has processed a message.
  #
  # When it was noticed and repaired is told by the swarm's own events; when it struck and when work went on, by the
  # demo and by the ledgers.
  class Fault
    # Each kind with what is done to the node.
    KINDS = {
      kill: "killed (SIGKILL)",
      freeze: "frozen (SIGSTOP)",
      crash: "crashed (exception)",
      silence: "silent (C call holding the GVL)"
    }.freeze
    NOTICED = %w[node_unhealthy node_stopping node_killed node_exited].freeze

    # @return [Symbol] a key of {KINDS}
    attr_reader :kind
    # @return [Integer] the node's id
    attr_reader :node
    # @return [Integer] the process that was struck
    attr_reader :pid
    # @return [Integer, nil] the process that came instead
    attr_reader :replacement
    # @return [String, nil] why the swarm acted, in its own word
    attr_reader :reason

    def initialize(kind, node, pid)
      @kind = kind
      @node = node
      @pid = pid
    end

    def text
      KINDS.fetch(kind)
    end

    # @param time [Float] when it struck
    def struck(time)
      @struck_at = time
    end

    # @param event [Hash] an event of the swarm
    def event(event)
      return unless event["node_id"] == node

      if event["pid"] == pid
        notice(event) if NOTICED.include?(event["name"])
      elsif event["name"] == "node_started" && @ended_at && !@replaced_at
        @replaced_at = event["time"]
        @replacement = event["pid"]
      end
    end

    # @param batch [LedgerReader::Batch]
    def batch(batch)
      @resumed_at ||= batch.time if batch.pid == replacement && batch.node == node && !batch.results.empty?
    end

    # @return [Float, nil] seconds from the fault to the swarm's noticing it
    def detected = since_struck(@detected_at)
    # @return [Float, nil] seconds from the fault to the start of the replacement
    def replaced = since_struck(@replaced_at)
    # @return [Float, nil] seconds from the fault to the first message that the replacement has processed
    def first_message = since_struck(@resumed_at)

    # @return [Float, nil] when it struck, as long as it is not repaired
    def unrepaired_since
      @struck_at unless repaired?
    end

    def repaired?
      !first_message.nil?
    end

    private

    def notice(event)
      @detected_at ||= event["time"]
      @reason ||= event["reason"]
      @ended_at = event["time"] if event["name"] == "node_exited"
    end

    def since_struck(time)
      # A node that ends so fast that its end is seen before its own account of it is read was still struck first.
      [time - @struck_at, 0.0].max if time && @struck_at
    end
  end
end
