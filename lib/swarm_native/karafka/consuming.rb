# frozen_string_literal: true

module SwarmNative
  module Karafka
    # What every process that consumes has, a node and plain `karafka server` alike: the turnstile. A supervisor has
    # none.
    #
    # @api private
    module Consuming
      # Nodes, `karafka server` and the embedded mode all begin here.
      module Start
        def start
          Consuming.begin
          super
        end
      end

      class << self
        def join
          ::Karafka::Server.singleton_class.prepend(Start)
        end

        # Before Ruby 3.3 only what Karafka itself waits for passes, and a light topic that could have the whole GVL would.
        KEEP = 0.93

        # Whoever has switched it on before has chosen its settings.
        def begin
          DirectCalls.begin
          return if Turnstile.enabled?

          case (wanted = Karafka.settings.turnstile)
          when Hash then Turnstile.enable(**usual, **wanted)
          else Turnstile.enable(**usual) if wanted
          end
        end

        private

        def usual = HandOver.needed? ? { keep: KEEP } : {}
      end
    end
  end
end
