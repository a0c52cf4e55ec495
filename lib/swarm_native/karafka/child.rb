# frozen_string_literal: true

module SwarmNative
  module Karafka
    # What a node does before and around the body that Karafka gives its fork.
    #
    # @api private
    class Child
      # @return [Proc] the block of Karafka's fork
      attr_accessor :body

      def initialize(loop)
        @loop = loop
      end

      # @param node [SwarmNative::Node] whose signal handlers stand and whose supervisor has said go
      def call(node)
        Signals.put_back(@loop.others)
        @loop.faces.each { |face| face&.forget unless face&.id == node.id }
        @loop.probes.close
        @loop.face(node.id).native = node
        @node = node
        watch_boot
        report_from_fetch_loop
        body.call
      end

      # Karafka's handlers stand. What was told before them was told to ours alone.
      def joined
        return unless @node

        tell(:quiet, "TSTP") if @node.quiet?
        tell(:stop, @node.stopped_by) if @node.stopping?
      end

      private

      # As Karafka's handlers do it.
      def tell(what, signal)
        Thread.new do
          ::Karafka::App.config.internal.process.send(:notice_signal, :"SIG#{signal}")
          ::Karafka::Server.public_send(what)
        end
      end

      # The supervisor counts the node as ready when it fetches, not when it was forked.
      def watch_boot
        ready = false
        monitor.subscribe("connection.listener.before_fetch_loop") do
          ready ||= @node.ready
        end
      end

      # Karafka 2.5.0 reports when librdkafka's statistics come, so never where those are switched off
      # (karafka/karafka#3079). A listener of the user's own reports when it wants to.
      def report_from_fetch_loop
        listener = ::Karafka::App.config.internal.swarm.liveness_listener
        return unless listener.instance_of?(::Karafka::Swarm::LivenessListener)
        return if listener.respond_to?(:on_connection_listener_fetch_loop)

        monitor.subscribe("connection.listener.fetch_loop") { |event| listener.on_statistics_emitted(event) }
        # While a job runs, the loop waits, and this is all that it calls meanwhile.
        ::Karafka::Connection::Client.prepend(Module.new do
          define_method(:events_poll) do |*arguments|
            listener.on_statistics_emitted(nil)
            super(*arguments)
          end
        end)
      end

      def monitor = ::Karafka.monitor
    end
  end
end
