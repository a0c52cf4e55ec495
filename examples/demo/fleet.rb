# frozen_string_literal: true

module Demo
  # The nodes as the demo sees them: their states by the swarm's events, their work by their ledgers.
  class Fleet
    # How far back a rate looks, and how long ago a node that is at work may have finished a batch.
    RECENT = 1.0

    # What an event makes of a node's state; what is missing here leaves it as it is.
    STATES = {
      "node_started" => "booting", "node_ready" => "ready", "node_unhealthy" => "unhealthy",
      "node_stopping" => "stopping", "node_killed" => "killed", "node_exited" => "ended"
    }.freeze

    # One node.
    class Node
      # @return [Integer]
      attr_reader :id
      # @return [Integer, nil] of its present process
      attr_reader :pid
      # @return [String]
      attr_reader :state
      # @return [Integer]
      attr_reader :restarts
      # @return [Integer] messages that all its processes have done
      attr_reader :processed

      def initialize(id)
        @id = id
        @state = "booting"
        @restarts = 0
        @processed = 0
        @recent = []
      end

      def event(event)
        if event["name"] == "node_started"
          @restarts += 1 if @started
          @started = true
          @pid = event["pid"]
        end
        return unless event["pid"] == @pid

        state = STATES[event["name"]]
        @state = state == "unhealthy" ? event["reason"] || state : state if state
      end

      def batch(batch)
        @pid ||= batch.pid
        @processed += batch.results.size
        return if batch.pid != @pid || batch.results.empty?

        @last = batch.time
        @recent << [batch.time, batch.results.size]
      end

      # @return [Float] messages a second, of late
      def rate(now)
        @recent.shift while @recent.first && @recent.first[0] < now - RECENT
        @recent.sum { |_, count| count } / RECENT
      end

      def at_work?(now)
        state == "ready" && !@last.nil? && @last > now - RECENT && @struck != @pid
      end

      # A fault has struck its present process, which is not struck a second time.
      def struck
        @struck = @pid
      end
    end

    # @return [Array<Node>]
    attr_reader :nodes

    def initialize(nodes)
      @nodes = Array.new(nodes) { |id| Node.new(id) }
    end

    def event(event)
      @nodes[event["node_id"]].event(event) if event["node_id"]
    end

    def batch(batch)
      @nodes[batch.node].batch(batch)
    end

    # @return [Hash{Integer => Integer}] pids by node
    def at_work(now)
      @nodes.select { |node| node.at_work?(now) }.to_h { |node| [node.id, node.pid] }
    end
  end
end
