# frozen_string_literal: true

module SwarmNative
  module Karafka
    # Karafka's node as a face of a slot of the native supervisor: in the supervisor it tells of the slot's process, in
    # the process itself it reports.
    class Node < ::Karafka::Swarm::Node
      # @api private
      # @return [SwarmNative::Node] in the node's own process
      attr_accessor :native

      # @api private
      def initialize(id, loop)
        super(id, ::Process.pid)
        @loop = loop
        @seen = nil
      end

      # @api private
      # In the supervisor: forks by Karafka's own means, so that the body of the fork is Karafka's.
      def start
        @pidfd&.close
        # Made by Karafka of the new process in 2.5.0, by us in the others.
        @pidfd = nil
        @reader&.close
        super
        @pidfd ||= Pidfd.new(@pid)
        # Reports come through the supervisor's own pipe.
        @reader.close
      end

      # @return [Integer] the code that the node has reported since it was last asked, -1 if none
      # @note In the supervisor. The native supervisor acts on reports by itself.
      def status
        snapshot = @loop.snapshot(id)
        report = snapshot && [snapshot.pid, snapshot.reports]
        return -1 if snapshot&.last_report.nil? || report == @seen

        @seen = report
        snapshot.last_report
      end

      def alive?
        return true if @pid == ::Process.pid

        @pidfd ? @pidfd.alive? : false
      end

      # @return [Boolean] whether the supervisor has died; where it has, this process is about to end, if it has not
      def orphaned?
        native ? native.orphaned? : false
      end

      # @param signal [String]
      # @return [Boolean] false: the process has ended
      def signal(signal)
        @pidfd ? @pidfd.signal(signal) : false
      end

      # The native supervisor reaps.
      # @return [Boolean]
      def cleanup
        !alive?
      end

      # @api private
      # In a process that was forked: lets go of what is the supervisor's.
      def forget
        @pidfd&.close
        @reader&.close
      rescue IOError
        nil
      end

      # What a report can hold at most.
      GREATEST_CODE = (2**32) - 1
      private_constant :GREATEST_CODE

      private

      # Karafka's `healthy` and `unhealthy` end here, and so do those of users' own liveness listeners.
      def write(content)
        code = content.to_i
        return false if native.nil? || code.negative?

        code.zero? ? native.healthy : native.unhealthy([code, GREATEST_CODE].min)
      end
    end
  end
end
