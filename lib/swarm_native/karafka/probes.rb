# frozen_string_literal: true

module SwarmNative
  module Karafka
    # The sockets on which Karafka's Kubernetes listeners answer in the supervisor. Restarted nodes inherit them, and
    # one that outlives its supervisor would keep the port.
    #
    # @api private
    class Probes
      # In the supervisor, once its listeners have opened their sockets.
      def find
        base = ::Karafka::Instrumentation::Vendors.const_get(:Kubernetes)::BaseListener
        @listeners = ObjectSpace.each_object(base).to_a
      rescue NameError
        @listeners = [] # vendors' listeners are loaded by those who use them
      end

      # In a node.
      def close
        @listeners&.each do |listener|
          server = listener.instance_variable_get(:@server)
          server.close if server && !server.closed?
        end
      end
    end
  end
end
