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

        # Whoever has switched it on before has chosen its settings.
        def begin
          return if Turnstile.enabled?

          case (wanted = Karafka.settings.turnstile)
          when Hash then Turnstile.enable(**wanted)
          else Turnstile.enable if wanted
          end
        end
      end
    end
  end
end
