"""The words of the lecture's report in Portuguese; english.py has the same names and places in braces."""

LANGUAGE = "pt"
DECIMAL = ","  # separator of fractions; thousands have the other one
PAGE = "Redes neurais: os exemplos da aula, calculados"
INTRODUCTION = """\
Todos os exemplos e exercícios de uma introdução a perceptrons multicamadas (MLP) e redes convolucionais (CNN),
executados com a convolução, a ReLU, o pooling e as camadas densas do próprio convkit. Todos os números desta página
acabaram de ser calculados nesta máquina; os que outros publicaram estão marcados como publicados."""

TITLES = {
    "wine": "Uma rede pela regra prática: Wine",
    "ear": "Uma convolução à mão: a orelha do gato",
    "parameters": "Por que não uma MLP em imagens: parâmetros",
    "invariance": "Por que não uma MLP em imagens: invariância",
    "ilsvrc": "Redes para o ILSVRC 2012",
    "table": "Exercício 1: uma tabela, uma rede e o scikit-learn ao lado",
    "filters": "Exercício 2: filtros que detectam um padrão",
    "denoise": "Onde se usam CNNs: tirar ruído de imagens",
    "machine": "A máquina",
}

# The Wine example and exercise 1
WINE = """\
178 vinhos italianos, 13 medidas químicas de cada um, 3 variedades de uva. A rede aprende com 70 % deles e é testada com
o resto. As duas linhas vêm das mesmas {splits} divisões aleatórias; o desvio padrão mostra quanta sorte há em uma
só. As duas redes aprendem com a taxa {rate:g}; a listagem da aula deixa a do scikit-learn, {default:g}, que precisa de
mais épocas."""
TABLE = """\
{source}: {samples:,} amostras, {features} atributos, {outputs}. A regra prática propõe a rede, que aprende ao lado da
rede do scikit-learn com a mesma forma e a mesma taxa de aprendizado, {rate:g}, em {splits} divisões aleatórias: 70 %
para o treino e 30 % para o teste."""
NOTES = {
    "empty": "coluna {name}: vazia, deixada de fora",
    "missing": "coluna {name}: valores ausentes, substituídos pela mediana: {count}",
    "texts": "coluna {name}: um atributo para cada texto, {count} ao todo",
    "unknown": "coluna {name}: valores que não estão entre {known}: {count}",
}
CLASSES, ONE_VALUE = "{count} classes", "um valor a prever"
RULE = "A regra prática: {network}"
REASONS = {
    "input": "entrada: um neurônio para cada um dos {features} atributos",
    "hidden": "duas camadas ocultas, potências de dois: {first}, perto da metade de {features}, e {second}",
    "halved": "reduzidas à metade, {first} e {second}: os parâmetros não devem passar muito do número de amostras",
    "classes": "saída: um neurônio para cada uma das {outputs} classes; a softmax faz deles probabilidades",
    "value": "saída: um neurônio para o valor",
    "parameters": "{parameters:,} parâmetros para {samples:,} amostras",
    "too_many": "são muito mais parâmetros que amostras: use menos atributos, ou um modelo linear",
    "narrow": "a última camada oculta é mais estreita que as {outputs} saídas: experimente {outputs} nela também",
}
LECTURE_COUNT = """\
Parâmetros: a aula conta {lecture}, sem a camada de saída; a rede inteira tem {whole}."""
SCORES = ["rede", "média", "desvio padrão", "mínimo", "máximo"]
ACCURACY, R2 = "Acurácia na parte de teste.", "R² na parte de teste: 1 é perfeito, 0 é tão bom quanto a média."
POINTS = "{value:.1f} pontos"

# The cat's ear
BY_HAND = """\
Uma imagem 5x5 da orelha de um gato e dois filtros 3x3 que respondem às suas duas encostas. Ponha um filtro sobre a
imagem, multiplique o que fica um sobre o outro e some os nove produtos: esse é um número do mapa. Fora da imagem os
valores são 0 (preenchimento com zeros, 1). A ReLU troca os números negativos por 0; o max-pooling guarda o maior de
cada janela 2x2, também das que passam da borda. Azul é positivo, vermelho é negativo."""
ONE_CELL = "Um número do mapa: linha {row}, coluna {column}"
FILTERS = ["Filtro 1: a encosta que sobe", "Filtro 2: a encosta que desce"]
MISPRINT = """\
O {correct} na moldura é {printed} na aula. A própria imagem dá {correct}: a janela contém {correct} e três números
negativos. A aula continua o cálculo com {printed}, por isso aqui está a segunda camada a partir dos dois. A resposta é
a mesma."""
SECOND_LAYER = "Segunda camada: um filtro sobre os dois canais"
CLASSIFICATION = """\
A camada de classificação: a ReLU deixa um número positivo no último mapa. Uma camada densa soma o mapa e tira
{threshold}; a softmax faz probabilidades dessa pontuação e de 0, que representa "não há orelha"."""
VERDICTS = {True: "há uma orelha de gato na imagem", False: "não há orelha de gato na imagem"}
SCORE = "pontuação {score:+g}: {verdict}, {probability}"
AS_PRINTED, CORRECT = "como impresso", "correto"
UPSIDE_DOWN = "A mesma rede com outras imagens e a sua probabilidade de haver uma orelha: {answers}."
OTHERS = ["a orelha de ponta-cabeça", "a orelha deitada", "uma imagem uniforme"]
STRIDES = "Passo (stride): quanto o filtro anda de cada vez"
STRIDE = "passo {stride}: {height}x{width}"
MAPS = {
    "image": "imagem",
    "filter": "filtro {number}",
    "convolution": "convolução",
    "relu": "ReLU",
    "pooled": "max-pooling",
    "window": "janela",
    "products": "janela vezes filtro",
    "sum": "a soma",
    "channel": "canal {number}",
    "pooled_channel": "canal {number}, {version}",
    "second_filter": "filtro no canal {number}",
    "map": "mapa",
}

# Parameters
PARAMETERS = """\
Uma camada densa liga cada pixel a cada neurônio: os seus parâmetros crescem com a imagem. Uma convolução tem os mesmos
poucos em qualquer lugar: os {convolutions:,} desta rede não dependem da imagem; só a camada densa no fim depende.
Imagens coloridas, dez classes. Cada max-pooling 2x2 também divide o número de valores por 4."""
PARAMETERS_TABLE = ["imagem", "entradas", "MLP, regra prática", "MLP, 100 neurônios", "CNN", "dos quais convoluções"]
PARAMETERS_CHART = ("largura da imagem em pixels", "parâmetros")
PARAMETERS_SERIES = ["MLP, regra prática", "MLP, 100 neurônios", "CNN"]

# Invariance
INVARIANCE = """\
Três redes aprendem {samples:,} dígitos manuscritos como são e depois leem outros {tests:,}, que passaram
por translação, rotação ou mudança de escala. Nenhuma viu dígitos assim. Nada é invariante por si só; na translação o
max-pooling deve ajudar, pois o máximo fica o mesmo quando o que o causou anda dentro da sua janela. Aqui, 3 pixels
custam menos acurácia à rede {network}: {lost:.1f} pontos."""
NETWORKS = {"mlp": "MLP", "cnn": "CNN sem max-pooling", "cnn_pooled": "CNN com max-pooling"}
EXPERIMENTS = {
    "translation": ("translação", "pixels, média de quatro direções"),
    "rotation": ("rotação", "graus, média dos dois sentidos"),
    "scale": ("escala", "fator"),
}
INVARIANCE_TABLE = ["rede", "parâmetros", "como são", "translação 3 pixels", "rotação 30 graus", "escala 0,7"]
ACCURACY_AXIS = "acurácia, %"

# ILSVRC
ILSVRC = """\
O desafio da ImageNet de 2012: 1000 classes, 1,2 milhão de imagens de treino, 150 mil de teste. A primeira tabela é
citada como publicada (documentação do Keras; os tempos são de outras máquinas, 32 imagens por passo). As acurácias não
são medidas aqui: para isso são precisos os dados e os pesos treinados, que não vêm com o convkit. Os pesos da VGG são
lidos com os nomes do torchvision, os da Xception com os do timm."""
PUBLISHED = "Como publicado"
PUBLISHED_TABLE = [
    "rede", "tamanho, MB", "top-1", "top-5", "parâmetros", "profundidade", "ms por passo, CPU", "ms por passo, GPU"
]  # fmt: skip
OURS = "As nossas, em {machine}"
OURS_TABLE = [
    "rede",
    "tamanho, MB",
    "parâmetros",
    "GFLOPs",
    "lote",
    "convkit, ms",
    "torch, ms",
    "torch / convkit",
    "Keras, ms",
]
OURS_NOTE = """\
{threads}, float32, pesos aleatórios; a mediana, cada lado no melhor dos seus dois formatos de memória;
<code>convkit.optimize</code> ao lado de <code>torch.nn</code> em modo de avaliação, logits iguais até {error:.0e}.
Keras: {keras}. As {statistics:,} médias e variâncias da Xception contam como parâmetros na aula."""
ABSENT = "não instalado"
ROUGH = "Estes tempos são aproximados: com --quick cada um é medido por uma fração de segundo."

# Exercise 2
DETECTOR = """\
Uma cadeia que detecta um padrão e nada mais. O primeiro filtro tira o cinza. Cada filtro da segunda camada conhece uma
parte 3x3 do padrão: +1 onde está aceso, -1 onde está apagado, e um viés tal que só a parte inteira fica acima de 0. O
último filtro exige todas as partes nos seus lugares."""
SCENE = "a imagem: uma orelha entre coisas parecidas"
PARTS, PART_MAPS, ANSWER = "os filtros das partes", "onde cada parte aparece", "a resposta: {count} lugar dispara"
SHAPES = {
    "ear": "a orelha",
    "upside_down": "de ponta-cabeça",
    "broken": "falta um pixel",
    "filled": "um pixel a mais",
    "cross": "uma cruz",
    "sideways": "deitada",
}
SHAPES_TABLE = ["forma", "linha", "coluna", "último mapa"]
ALONE = "Só a orelha, número por número"
CHAIN = "A cadeia de {path}, passo a passo"
STEPS = {"image": "imagem", "convolution": "convolução", "ReLU": "ReLU", "max-pooling": "max-pooling"}
STEP_CHANNEL = "{step}, canal {channel}"

# Denoising
DENOISE = """\
Uma pequena CNN ({parameters:,} parâmetros) aprende a estimar o ruído em {count:,} recortes de fotografias que vêm com o
scikit-image e depois limpa duas fotografias das quais não viu nada. A PSNR mede quão perto uma imagem está da limpa, em
dB: 3 dB a mais são metade do erro quadrático. O desfoque é o melhor de seis gaussianos."""
PICTURES = ["limpa", "com ruído, {psnr:.1f} dB", "limpa pela CNN, {psnr:.1f} dB"]
DENOISE_TABLE = ["fotografia", "com ruído, dB", "melhor desfoque, dB", "CNN, dB"]

MACHINE = ["processador", "conjunto de instruções", "threads", "versões", "esta execução"]
RUN = "{date}, {seconds:.0f} s{quick}; todas as sementes são fixas"
